// Real Docker engines on two hosts of a lab: one file after the other, for an engine is a heavy thing.
export default {
  files: ['test/docker/**/*.test.ts'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 1,
  timeout: '5m',
};
