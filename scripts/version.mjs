// `npm run release:version`, run by the release workflow: the version that the changesets ask for, everywhere it is
// written. Changesets raises package.json; Cargo.toml, Cargo.lock and package-lock.json follow,
// and the changelog's open section gets the version and a date.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail, npm, ROOT, runQuietly, StepError } from './lib/run.mjs'

const read = (name) => readFileSync(join(ROOT, name), 'utf8')

function replace(name, pattern, replacement) {
  const text = read(name)
  if (!pattern.test(text)) throw new StepError(`${name} has nothing like ${pattern}`)
  writeFileSync(join(ROOT, name), text.replace(pattern, replacement))
}

async function main() {
  await runQuietly('changeset version', process.execPath, ['node_modules/@changesets/cli/bin.js', 'version'])
  const { version } = JSON.parse(read('package.json'))
  replace('Cargo.toml', /(\[workspace\.package\]\nversion = )"[^"]+"/, `$1"${version}"`)
  replace('Cargo.lock', /(name = "drcorl-\w+"\nversion = )"[^"]+"/g, `$1"${version}"`)
  const date = new Date().toISOString().slice(0, 10)
  replace('CHANGELOG.md', /^## \[Unreleased\]$/m, `## [Unreleased]\n\n## [${version}] - ${date}`)
  const [command, args] = npm(['install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund'])
  await runQuietly('package-lock.json', command, args)
  console.log(`version ${version}`)
}

main().catch(fail)
