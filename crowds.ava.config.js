// The faults that take many nodes, containers or callers, one lane after the other.
export default {
  files: ['test/cluster/faults/crowds/*.test.ts'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 1,
  timeout: '3m',
};
