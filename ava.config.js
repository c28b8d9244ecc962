// The tests of the parts; whole clusters, Docker's engines and other kernels have configurations of their own
// (cluster.ava.config.js, faults.ava.config.js, crowds.ava.config.js, docker.ava.config.js, vm.ava.config.js).
export default {
  files: ['test/**/*.test.ts', '!test/cluster/**', '!test/docker/**', '!test/vm/**', '!test/bench/**'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 2,
  timeout: '2m',
};
