// Text from elsewhere, safe for a terminal and a log.

/** Control characters, line separators, and those that reverse the direction of text (Unicode TR36 §3). */
const HIDDEN = /[\p{Cc}\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/gu;

const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** The text with such characters as \uXXXX. */
export const visible = (text: string): string => text.replaceAll(HIDDEN, escaped);

/** As `visible`, with its line breaks. */
export const visibleLines = (text: string): string =>
  text.replaceAll(HIDDEN, (character) => (character === '\n' ? character : escaped(character)));
