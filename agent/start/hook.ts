// A callback that is connected after the part that calls it has been made.
export class Hook<A extends readonly unknown[], R = void> {
  #target: ((...args: A) => R) | undefined;

  /** @param idle what the hook answers while it is not connected */
  constructor(private readonly idle: R) {}

  /** Given to the part that calls it. */
  readonly call = (...args: A): R => (this.#target === undefined ? this.idle : this.#target(...args));

  connect(target: (...args: A) => R): void {
    this.#target = target;
  }
}
