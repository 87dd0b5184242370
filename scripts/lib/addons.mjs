// The two addons: the kind of package each travels in, the crate that makes it, the first part of its file name, and
// the file of its types in src/native.
export const ADDONS = [
  { kind: 'runtime', crate: 'drcorl-runtime', stem: 'drcorl-runtime', types: 'runtime-addon.ts' },
  { kind: 'core', crate: 'drcorl-node', stem: 'drcorl', types: 'core-addon.ts' },
]

/** An addon's file name, in the root of a checkout and in its package. */
export const addonFile = ({ stem }, triple) => `${stem}.${triple}.node`
