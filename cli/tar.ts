// Writes a tar archive of regular files (POSIX.1-2001, pax Interchange Format: ustar headers).

const BLOCK_BYTES = 512;

/** One file of the archive. @param name at most 100 bytes, and 155 more for its folders */
export function tarEntry(name: string, content: Uint8Array, modified: Date): Buffer {
  const { file, folders } = split(name);
  const header = Buffer.alloc(BLOCK_BYTES);
  header.write(file, 0);
  header.write(octal(0o600, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(content.length, 12), 124);
  header.write(octal(Math.floor(modified.getTime() / 1000), 12), 136);
  // The checksum is that of a header with blanks in its place.
  header.write(' '.repeat(8), 148);
  header.write('0', 156);
  header.write('ustar\0', 257);
  header.write('00', 263);
  header.write(folders, 345);
  header.write(
    `${octal(
      header.reduce((sum, byte) => sum + byte, 0),
      7,
    )} `,
    148,
  );
  return Buffer.concat([
    header,
    content,
    Buffer.alloc((BLOCK_BYTES - (content.length % BLOCK_BYTES)) % BLOCK_BYTES),
  ]);
}

export const tarEnd = (): Buffer => Buffer.alloc(2 * BLOCK_BYTES);

/** @param width with the terminating zero */
const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;

function split(name: string): { file: string; folders: string } {
  if (Buffer.byteLength(name) <= 100) return { file: name, folders: '' };
  const at = name.lastIndexOf('/');
  const [folders, file] = [name.slice(0, at), name.slice(at + 1)];
  if (at < 0 || Buffer.byteLength(file) > 100 || Buffer.byteLength(folders) > 155)
    throw new RangeError(`a name that tar cannot hold: ${name}`);
  return { file, folders };
}
