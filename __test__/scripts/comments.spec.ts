/** The check of comments: what it finds, and what its --fix makes of it. */
import test from 'ava'

interface Comments {
  findings(path: string, source: string): string[]
  wrapped(path: string, source: string): string
}

const script = new URL('../../scripts/comments.mjs', import.meta.url)
const { findings, wrapped } = (await import(script.href)) as Comments

const words = (count: number): string => Array.from({ length: count }, (_, i) => `word${i % 10}`).join(' ')

test('long comments and foreign references are found, code and short comments are not', (t) => {
  const lines = [
    `// ${words(20)}`,
    `const text = '${words(30)}'`,
    `const one = 1 // ${words(20)}`,
    `// as document ${'U'}12 has it`,
    `test('${'U'}3: a title', () => {})`,
    `// see ${'spec'} 4.1`,
    '// bytes of type u8',
  ]
  t.deepEqual(
    findings('a.ts', lines.join('\n')).map((finding) => finding.slice(0, 'a.ts:N: refers'.length)),
    ['a.ts:1: 122 co', 'a.ts:3: 136 co', 'a.ts:4: refers', 'a.ts:5: refers', 'a.ts:6: refers'],
  )
  t.deepEqual(findings('a.py', `"""${words(20)}"""`), ['a.py:1: 125 columns'])
})

test('wrapping keeps the words, the marks and what begins an item, and is done after one pass', (t) => {
  const sources: [path: string, source: string, wrapped: string][] = [
    ['a.rs', `    /// ${words(20)}\n    /// goes on.`, `    /// ${words(18)}\n    /// word8 word9 goes on.`],
    ['a.rs', `//! ${words(20)}\n//!\n//! next`, `//! ${words(19)}\n//! word9\n//!\n//! next`],
    ['a.rs', `/// - ${words(20)}\n/// - next`, `/// - ${words(19)}\n///   word9\n/// - next`],
    ['a.ts', `/** ${words(20)} */`, `/**\n * ${words(19)}\n * word9\n */`],
    [
      'a.ts',
      `/**\n * @param ${words(19)}\n * @returns\n */`,
      `/**\n * @param ${words(18)}\n *   word8\n * @returns\n */`,
    ],
    ['a.mjs', `// ${words(20)}\ncode()`, `// ${words(19)}\n// word9\ncode()`],
    ['a.py', `"""${words(20)}"""\ncode()`, `"""${words(19)}\nword9"""\ncode()`],
  ]
  for (const [path, source, expected] of sources) {
    t.is(wrapped(path, source), expected)
    t.is(wrapped(path, expected), expected)
    t.deepEqual(findings(path, expected), [])
  }
})

test('a last line begins with a clause where there is one', (t) => {
  const clause = `// ${words(10)}, ${words(10)}`
  t.is(wrapped('a.ts', clause), `// ${words(10)},\n// ${words(10)}`)
})

test('code spans are not cut, and code is left alone', (t) => {
  const span = `// ${words(18)} \`a b c d e\` end`
  t.is(wrapped('a.ts', span), `// ${words(18)}\n// \`a b c d e\` end`)
  const code = `const text = '// ${words(30)}'`
  t.is(wrapped('a.ts', code), code)
})
