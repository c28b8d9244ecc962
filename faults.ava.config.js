// The faults, two lanes at a time. What fills a machine by itself is in crowds, and has a configuration of its own: beside it
// a lane would measure the machine, and not weft.
export default {
  files: ['test/cluster/faults/*.test.ts'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 2,
  timeout: '3m',
};
