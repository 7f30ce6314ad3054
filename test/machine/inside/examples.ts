/**
 * The examples of docs/guests.md: blocks of code, each below a comment that says whose it is.
 *
 * `<!-- example: NAME -->` or `<!-- example: NAME, file: PATH -->` above a block, or `<!-- not run: REASON -->`.
 */
import { readFileSync } from 'node:fs';
import { BARE_GUEST } from './qemu.js';

export interface Block {
  /** What stands after the fence: `toml`, `sh`, `xml`. */
  language: string;
  /** Where the text belongs, when it is a file. */
  file: string | null;
  text: string;
}

const FENCE = /^```(\S*)\n(.*?)^```$/gms;
const MARK = /<!-- (?:example: (?<name>[a-z-]+)(?:, file: (?<file>\/\S+))?|not run: .+) -->\n$/;

/** The blocks of each example, in their order. Throws for a block without a comment. */
export function readExamples(document = 'docs/guests.md'): Map<string, Block[]> {
  const text = readFileSync(document, 'utf8');
  const examples = new Map<string, Block[]>();
  for (const { index, 1: language = '', 2: code = '' } of text.matchAll(FENCE)) {
    const mark = MARK.exec(text.slice(0, index));
    if (mark === null) throw new Error(`${document}: no comment says whether this is run:\n${code}`);
    const { name, file = null } = mark.groups ?? {};
    if (name === undefined) continue;
    examples.set(name, [...(examples.get(name) ?? []), { language, file, text: code }]);
  }
  return examples;
}

/** Shows one colour, and stays. */
const LESSEE = [process.execPath, new URL('lessee.js', import.meta.url).pathname, '{fd}', 'ff0000'];

/** What differs here: no KVM, no GPU, little memory, the outputs of the card, and the bare guest in place of an image. */
export function adapt(text: string, outputs: readonly string[], words: string): string {
  const kernel = `${process.cwd()}/${BARE_GUEST}`;
  const guest = ['-kernel', kernel, '-append', words, '-serial', 'stdio', '-nic', 'none'];
  const [first = '', second = ''] = outputs;
  return (
    text
      // In a shell's words and in a list's texts.
      .replaceAll(/-accel(", "| )kvm/g, '-accel$1tcg')
      .replaceAll(/-m(", "| )4G/g, '-m$1128M')
      .replaceAll('size=4G', 'size=128M')
      .replaceAll('"disk.qcow2"', guest.map((word) => JSON.stringify(word)).join(', '))
      .replaceAll('disk.qcow2', guest.map((word) => `'${word}'`).join(' '))
      .replaceAll(/"(DP|HDMI-A)-1"/g, `"${first}"`)
      .replaceAll(/"(DP|HDMI-A)-2"/g, `"${second}"`)
      // What draws through a lease, in place of a player.
      .replaceAll(
        '"flutter-pi", "--drm-fd", "{fd}", "/srv/app"',
        LESSEE.map((word) => JSON.stringify(word)).join(', '),
      )
      // A shell that is killed leaves what it runs behind.
      .replaceAll(/^(qemu-system|scanoutctl)/gm, 'exec $1')
      // What draws without a GPU here gives no dma-bufs to libvirt's user.
      .replaceAll(/<gl enable='yes' .*?\/>/g, '')
      .replaceAll("<domain type='kvm'", "<domain type='qemu'")
      .replaceAll("<memory unit='GiB'>4<", "<memory unit='MiB'>128<")
      .replaceAll(/<disk .*?<\/disk>/gs, '<serial type="null"/>')
      .replaceAll('</os>', `<kernel>${kernel}</kernel><cmdline>${words}</cmdline></os>`)
  );
}
