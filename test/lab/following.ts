// Work that is repeated until it is told to end.

/** @returns what ends it, and settles when it has ended */
export function following(work: () => Promise<void>): () => Promise<void> {
  let over = false;
  const loop = async (): Promise<void> => {
    while (!over) await work();
  };
  const running = loop();
  return async () => {
    over = true;
    await running;
  };
}
