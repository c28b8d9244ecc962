// Policies: who may speak to whom, by names and labels.
export { PolicyClasses } from './classes.js';
export { closingOf, judge, type PolicyPacket, type PolicyVerdict, type PolicyWorld } from './evaluate.js';
export type {
  PolicyAddress,
  PolicyChange,
  PolicyItem,
  PolicyPort,
  PolicyRules,
  PolicyVerdict as VerdictItem,
} from './items.js';
export {
  allowSame,
  digestOf,
  formatPorts,
  parsePolicy,
  parsePorts,
  textsOf,
  type Policy,
  type PolicyTexts,
} from './policy.js';
export { parseSelector, type Selector, type Subject } from './selector.js';
export { nodeSubjects, publishedBy, subjectOf } from './subjects.js';
export { PolicyState, type PolicyEntry } from './state.js';
