// Real Docker engines on two hosts of a lab. Two files at a time: half of their time is waiting.
export default {
  files: ['test/docker/**/*.test.ts'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 2,
  timeout: '5m',
};
