import { readFileSync } from 'node:fs'

/** Version of this package, from its package.json (two folders above both src/ and dist/). */
export const VERSION = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version
