// Whole clusters on this machine: each file is a lane with hosts of its own, driven through the command line.
export default {
  files: ['test/cluster/**/*.test.ts', '!test/cluster/faults/**'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 2,
  timeout: '3m',
};
