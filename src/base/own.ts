/**
 * What a table has under a name that came from a user or a file; undefined for names that every object has, such as
 * `constructor`.
 */
export function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined
}
