// Counts of things by whose they are, and of all.
export class Counts {
  all = 0;
  readonly #of = new Map<string, number>();

  of(caller: string): number {
    return this.#of.get(caller) ?? 0;
  }

  add(caller: string, change: 1 | -1): void {
    this.all += change;
    const count = this.of(caller) + change;
    if (count > 0) this.#of.set(caller, count);
    else this.#of.delete(caller);
  }
}
