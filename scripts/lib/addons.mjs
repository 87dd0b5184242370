// The two addons: the kind of package each travels in, the crate that makes it, the first part of its file name, and
// its type in index.d.ts.
export const ADDONS = [
  { kind: 'runtime', crate: 'drcorl-runtime', stem: 'drcorl-runtime', declared: 'RuntimeAddon' },
  { kind: 'core', crate: 'drcorl-node', stem: 'drcorl', declared: 'CoreAddon' },
]

/** An addon's file name, in the root of a checkout and in its package. */
export const addonFile = ({ stem }, triple) => `${stem}.${triple}.node`
