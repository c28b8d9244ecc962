// Policies that come when the test says so, each change taken once.
import type { PolicySource } from '../../agent/reconcile/firewall-target.js';
import type { PolicyChange, PolicyRules } from '../../core/policy/index.js';

export class FakePolicies implements PolicySource {
  #waiting: PolicyChange[] = [];

  constructor(public rules: PolicyRules = { ranges: [] }) {}

  comes(...changes: PolicyChange[]): void {
    this.#waiting.push(...changes);
  }

  get hasNews(): boolean {
    return this.#waiting.length > 0;
  }

  take(): ReturnType<PolicySource['take']> {
    const changes = this.#waiting;
    this.#waiting = [];
    return { rules: this.rules, changes };
  }
}
