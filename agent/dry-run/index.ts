// Dry run: what the agent would do on this node.
export { dryRun, type DryRun, type DryRunOptions, type PlannedStep } from './dry-run.js';
export { formatDryRun } from './format.js';
