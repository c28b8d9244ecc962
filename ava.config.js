// The tests of the parts; whole clusters have a configuration of their own (cluster.ava.config.js).
export default {
  files: ['test/**/*.test.ts', '!test/cluster/**', '!test/bench/**'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 2,
  timeout: '2m',
};
