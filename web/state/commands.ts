// The commands in a next step, which is written for people.
export interface Part {
  text: string;
  isCommand: boolean;
}

/** Nothing that a shell takes for more than a word: names in it are somebody's choice. In backquotes, or from `weft` up to a word of prose or what ends a sentence. */
const COMMAND =
  /(?<=`)weft [\w ./:@=,-]+(?=`)|\bweft(?: (?!(?:and|or|on|in|of|if|is|then|to|there|where|shows?)\b)(?:--?[a-z][\w-]*|[\w./:@=-]*[\w/]))+/g;

/** All of the text, in order. */
export function partsOf(text: string): Part[] {
  const parts: Part[] = [];
  let end = 0;
  for (const { 0: command, index } of text.matchAll(COMMAND)) {
    parts.push({ text: text.slice(end, index), isCommand: false }, { text: command, isCommand: true });
    end = index + command.length;
  }
  parts.push({ text: text.slice(end), isCommand: false });
  return parts.filter((part) => part.text !== '');
}

/** A command of words that somebody chose, each one word for a shell. */
export const commandOf = (...words: string[]): string =>
  words.map((word) => (/^[\w./:@=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ');
