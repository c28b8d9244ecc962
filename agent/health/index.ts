// Health of the agent: problems, metrics, readiness.
export { type AgentMetrics, agentMetrics } from './metrics.js';
export { attempt, type Problem, Problems } from './problems.js';
export { AgentReadiness, FIRST_LIST } from './readiness.js';
