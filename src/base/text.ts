/**
 * Text that came from files or names, safe on a terminal: control characters, which move the cursor, hide lines or
 * change titles, are spelled out as `\xNN`. Line ends and tabs stay.
 */
export function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, (character) => {
    return `\\x${character.codePointAt(0)!.toString(16).padStart(2, '0')}`
  })
}

/** The same for text that has been coloured on purpose: a change of colour stays, all else is spelled out. */
export function printableStyled(text: string): string {
  return text
    .split(/(\p{Cc}\[[0-9;]*m)/u)
    .map((part, index) => (index % 2 === 1 ? part : printable(part)))
    .join('')
}
