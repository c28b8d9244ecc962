// Health of the agent: problems, metrics, readiness.
export { attempt, type Attempt } from './attempt.js';
export { clockProblem } from './clock.js';
export { type AgentMetrics, agentMetrics, countDenials, countDrops } from './metrics.js';
export {
  DNS,
  endpointScope,
  FIREWALL,
  networkScope,
  NODE,
  OUTAGE,
  OWN_ADDRESS,
  type ProblemKey,
  type ProblemKind,
  type ProblemScope,
  UNDERLAY,
} from './problem-key.js';
export { problemEvents, type ScopeObject, scopeObjects } from './problem-events.js';
export { type Problem, Problems } from './problems.js';
export { AgentReadiness, FIRST_LIST, NAME_CONFLICT, NODE_REMOVED } from './readiness.js';
