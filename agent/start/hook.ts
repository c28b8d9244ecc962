// A callback whose target is connected after its caller was made.
export class Hook<A extends readonly unknown[], R = void> {
  #target: ((...args: A) => R) | undefined;

  /** @param idle the result while it is not connected */
  constructor(private readonly idle: R) {}

  /** The function for the caller. */
  readonly call = (...args: A): R => (this.#target === undefined ? this.idle : this.#target(...args));

  connect(target: (...args: A) => R): void {
    this.#target = target;
  }
}
