// The faults, one lane after the other: each measures how long weft takes, and a lane beside it would be measured, too.
export default {
  files: ['test/cluster/faults/**/*.test.ts'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 1,
  timeout: '3m',
};
