// Dry run: what the agent would do on this node.
export { describePreview, type PlannedStep, type PlannedSteps } from './describe.js';
export { dryRun, type DryRunOptions } from './dry-run.js';
export { formatDryRun } from './format.js';
