// The two addons: which crate makes each, the first part of its file name, and the file of its types in src/native.
export const ADDONS = [
  { crate: 'drcorl-runtime', stem: 'drcorl-runtime', types: 'runtime-addon.ts' },
  { crate: 'drcorl-node', stem: 'drcorl', types: 'core-addon.ts' },
]
