// Tests on Debian's own kernel, in virtual machines. They are emulated, and fill two cores: one file at a time.
export default {
  files: ['test/vm/**/*.test.ts'],
  typescript: { rewritePaths: { 'test/': 'build/test/' }, compile: false },
  workerThreads: false,
  concurrency: 1,
  // Deadlines of tests, not of weft; Node is ten to twenty times slower in there.
  environmentVariables: { WEFT_TEST_SLOWNESS: '15' },
  timeout: '10m',
};
