export default {
  extensions: { ts: 'module' },
  files: ['__test__/**/*.spec.ts'],
  nodeArguments: ['--import=@oxc-node/core/register'],
  // libtorch keeps global state in the process (ava#3159): one process for each file.
  workerThreads: false,
  concurrency: 2,
  timeout: '10m',
}
