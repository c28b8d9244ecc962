// The state directory for a reader that changes nothing.
//
// It may belong to an agent that runs: even a leftover or a torn file is that agent's to put aside.
import type { InterfaceLoan, InterfaceLoans } from '../kernel/index.js';
import { loansFolder } from './interface-loans.js';
import { type Loaded, State } from './state.js';

/** What is saved or deleted is dropped. */
export class ReadOnlyState extends State {
  override load(): Loaded {
    return this.look();
  }

  override saveNetwork(): void {}
  override deleteNetwork(): void {}
  override saveEndpoint(): void {}
  override deleteEndpoint(): void {}
  override saveReservation(): void {}
  override deleteReservation(): void {}
}

/** The loans of this boot, as they are now. @throws WeftError FAILED_PRECONDITION where a file cannot be read */
export class ReadOnlyLoans implements InterfaceLoans {
  readonly #loans: readonly InterfaceLoan[];

  constructor(stateDir: string, bootId: string) {
    this.#loans = loansFolder(stateDir)
      .look()
      .records.filter((loan) => loan.bootId === bootId);
  }

  list(): InterfaceLoan[] {
    return [...this.#loans];
  }

  get(link: string): InterfaceLoan | undefined {
    return this.#loans.find((loan) => loan.link === link);
  }

  put(): void {}
  delete(): void {}
}
