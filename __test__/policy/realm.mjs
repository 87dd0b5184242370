// Runs modules in a context that has what browsers and Node share and nothing of Node's own. Standard input is
// {"modules": {path: code}, "globals": {name: value}}; `main.js` leaves its answer in globalThis.answer.
import { posix } from 'node:path'
import { text } from 'node:stream/consumers'
import vm from 'node:vm'

const { modules, globals } = JSON.parse(await text(process.stdin))
const context = vm.createContext({ TextDecoder, TextEncoder, URL, fetch, ...globals })
const made = new Map()

function module(path) {
  if (!(path in modules)) throw new Error(`no module ${path}`)
  if (!made.has(path)) made.set(path, new vm.SourceTextModule(modules[path], { context, identifier: path }))
  return made.get(path)
}

const main = module('main.js')
await main.link((specifier, referrer) => {
  // The program names the entry from the root, the modules name each other.
  return module(specifier.startsWith('.') ? posix.join(posix.dirname(referrer.identifier), specifier) : specifier)
})
await main.evaluate()
process.stdout.write(context.answer)
