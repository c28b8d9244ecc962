// The tests of the parts; whole clusters and other kernels have configurations of their own (cluster.ava.config.js,
// vm.ava.config.js).
export default {
  files: ['test/**/*.test.ts', '!test/cluster/**', '!test/vm/**', '!test/bench/**'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 2,
  timeout: '2m',
};
