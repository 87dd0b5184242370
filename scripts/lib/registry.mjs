// A small npm registry on this machine: it serves the tarballs of target/packages and sends every other request on to
// the registry npm is set up with. So an installation takes the way a user's takes, by name and version,
// before anything is published.
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { tarballName } from './packages.mjs'

const hash = (algorithm, path, encoding) => createHash(algorithm).update(readFileSync(path)).digest(encoding)

/** The document a registry answers with when asked for a package. */
function packument(manifest, folder, base) {
  const { name, version } = manifest
  const file = tarballName(manifest)
  const path = join(folder, file)
  // A package of another platform is declared, with no tarball behind it:
  // whoever asks for that has read `os` and `cpu` wrongly.
  const sums = existsSync(path)
    ? { shasum: hash('sha1', path, 'hex'), integrity: `sha512-${hash('sha512', path, 'base64')}` }
    : { shasum: '0'.repeat(40) }
  const dist = { tarball: `${base}/-/tarballs/${file}`, ...sums }
  const time = { [version]: '2020-01-01T00:00:00.000Z' }
  return { name, 'dist-tags': { latest: version }, versions: { [version]: { ...manifest, dist } }, time }
}

/**
 * @param {string} folder with tarballs and manifests.json, as scripts/pack.mjs leaves it
 * @param {string} upstream address of the registry for everything else
 * @returns {Promise<{ url: string, tarballs: string[], close: () => void }>} `tarballs`: what was asked for, in order
 */
export async function startRegistry(folder, upstream) {
  const manifests = JSON.parse(readFileSync(join(folder, 'manifests.json'), 'utf8'))
  const tarballs = []
  const documents = new Map()
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname).slice(1)
    if (path.startsWith('-/tarballs/')) {
      const file = path.slice('-/tarballs/'.length)
      tarballs.push(file)
      const known = documents.size > 0 && !file.includes('/') && existsSync(join(folder, file))
      if (!known) return response.writeHead(404).end()
      response.writeHead(200, { 'content-length': statSync(join(folder, file)).size })
      return createReadStream(join(folder, file)).pipe(response)
    }
    const document = documents.get(path)
    if (document !== undefined) {
      return response.writeHead(200, { 'content-type': 'application/json' }).end(document)
    }
    response.writeHead(307, { location: new URL(request.url.slice(1), upstream).href }).end()
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${server.address().port}`
  for (const manifest of manifests) documents.set(manifest.name, JSON.stringify(packument(manifest, folder, url)))
  return { url: `${url}/`, tarballs, close: () => server.close() }
}
