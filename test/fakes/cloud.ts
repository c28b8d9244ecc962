// A cloud in memory: route tables that keep what they are told.
import type { CloudApi } from '../../cloud/index.js';
import type { CloudMember, CloudNetwork, CloudRoute, CloudStep, CloudTable } from '../../core/cloud.js';
import type { IpNetwork } from '../../core/address.js';

export class FakeCloud implements CloudApi {
  /** Thrown by the next calls. */
  failure: Error | undefined;
  /** Called before each look at the tables. */
  onLook: () => void = () => undefined;
  /** Every applied step. */
  readonly steps: CloudStep[] = [];

  /**
   * @param self the machine that asks, as a next hop @param tablesById those of another machine of the cloud, for one of the
   *   same
   */
  constructor(
    readonly self = 'eni-1',
    readonly tablesById = new Map<string, CloudRoute[]>([['rtb-1', []]]),
  ) {}

  hop(_member: CloudMember): Promise<string> {
    return this.#answer(() => this.self);
  }

  forward(): Promise<void> {
    return this.#answer(() => undefined);
  }

  tables({ tables, prefix }: CloudNetwork): Promise<CloudTable[]> {
    this.onLook();
    return this.#answer(() =>
      [...this.tablesById]
        .filter(([id]) => tables.length === 0 || tables.includes(id))
        .map(([id, routes]) => ({ id, routes: routes.filter(({ to }) => prefix.contains(to)) })),
    );
  }

  apply(step: CloudStep): Promise<void> {
    return this.#answer(() => {
      this.steps.push(step);
      const { table, to } = step.do === 'create' ? step : step.route;
      if (step.do === 'create' && this.#find(table, to) !== undefined)
        throw new Error(`${to.toString()} is there`);
      if (step.do !== 'create' && this.#find(table, to) === undefined)
        throw new Error(`${to.toString()} is not there`);
      this.remove(table, to);
      if (step.do !== 'delete') this.put(table, to, step.hop);
    });
  }

  put(table: string, to: IpNetwork, hop: string, isMachine = true): void {
    this.tablesById.get(table)?.push({ table, to, hop, isMachine });
  }

  remove(table: string, to: IpNetwork): void {
    const routes = this.tablesById.get(table) ?? [];
    this.tablesById.set(
      table,
      routes.filter((route) => !route.to.equals(to)),
    );
  }

  /** `rtb-1 10.100.5.0/24 eni-1` for each route, sorted. */
  shown(): string[] {
    return [...this.tablesById.values()]
      .flat()
      .map(({ table, to, hop }) => `${table} ${to.toString()} ${hop}`)
      .toSorted();
  }

  #find(table: string, to: IpNetwork): CloudRoute | undefined {
    return this.tablesById.get(table)?.find((route) => route.to.equals(to));
  }

  #answer<T>(answer: () => T): Promise<T> {
    return this.failure === undefined ? Promise.resolve().then(answer) : Promise.reject(this.failure);
  }
}
