/** `index.d.ts`: what it declares is what the addons have, and nothing of it is left unexplained. */
import { readFile } from 'node:fs/promises'
import test from 'ava'
import ts from 'typescript'
import { loadCore, loadRuntime } from '../../src/native/addons.js'

const text = await readFile(new URL('../../index.d.ts', import.meta.url), 'utf8')
const file = ts.createSourceFile('index.d.ts', text, ts.ScriptTarget.Latest, true)

type Documented = ts.ClassDeclaration | ts.InterfaceDeclaration | ts.FunctionDeclaration | ts.TypeAliasDeclaration

const isDeclaration = (node: ts.Node): node is Documented =>
  ts.isClassDeclaration(node) ||
  ts.isInterfaceDeclaration(node) ||
  ts.isFunctionDeclaration(node) ||
  ts.isTypeAliasDeclaration(node)

const nameOf = (node: Documented | ts.ClassElement | ts.TypeElement): string =>
  node.name?.getText(file) ?? 'constructor'

/** The names an addon's type picks. */
function picked(addon: string): string[] {
  const alias = file.statements.find((node) => isDeclaration(node) && nameOf(node) === addon)
  const names = /Pick<[^,]+, ([^>]+)>$/.exec(alias?.getText(file) ?? '')?.[1] ?? ''
  return names.split(' | ').map((name) => name.slice(1, -1))
}

test('every class, function, interface and member has a doc comment', (t) => {
  t.true(file.statements.every(isDeclaration), 'only declarations stand in index.d.ts')
  const declarations = file.statements.filter(isDeclaration)
  t.true(declarations.length > 8)
  for (const node of declarations) {
    const members = ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node) ? node.members : []
    for (const part of [node, ...members]) {
      const place = part === node ? nameOf(node) : `${nameOf(node)}.${nameOf(part)}`
      t.true(ts.getJSDocCommentsAndTags(part).length > 0, `${place} has no doc comment: write it in Rust, with ///`)
    }
  }
})

test('each addon has what its type says, and nothing else', async (t) => {
  t.deepEqual(picked('RuntimeAddon'), Object.keys(loadRuntime()).toSorted())
  t.deepEqual(picked('CoreAddon'), Object.keys(await loadCore()).toSorted())
})
