/** What the demonstration shows where: four guests on two outputs, or three on one. Pure. */

export interface DemoOutput {
  name: string;
  width: number;
  height: number;
}

export interface DemoCard {
  /** `/dev/dri/cardN` */
  path: string;
  /** Those that something is connected to. */
  outputs: DemoOutput[];
  /** Types of hardware planes by id. */
  planes: ReadonlyMap<number, string>;
}

export interface DemoGuest {
  name: string;
  /** For people: what it is to show. */
  role: string;
  output: string;
  plane: 'primary' | 'overlay';
  area: { x: number; y: number; width: number; height: number };
  z: number;
  /** More arguments of the example guest. */
  args: string[];
}

export function demoGuests(outputs: readonly DemoOutput[]): DemoGuest[] {
  const [first, second] = outputs;
  if (first === undefined) return [];
  const last = second ?? first;
  const guests = [
    fullScreen('left', first),
    ...(second === undefined ? [] : [fullScreen('right', second)]),
    inset('inset', 'overlay above the first', first, 'right', []),
    inset('pointer', 'moving cursor', last, second === undefined ? 'left' : 'right', ['--cursor']),
  ];
  return guests.map((guest, z) => ({ ...guest, z }));
}

function fullScreen(name: string, output: DemoOutput): DemoGuest {
  const { width, height } = output;
  const area = { x: 0, y: 0, width, height };
  return { name, role: 'full screen', output: output.name, plane: 'primary', area, z: 0, args: [] };
}

/** A third of the output, near an upper corner: the number of the guest below stays visible. Even, as YUV wants it. */
function inset(
  name: string,
  role: string,
  output: DemoOutput,
  side: 'left' | 'right',
  args: string[],
): DemoGuest {
  const even = (value: number) => Math.floor(value / 2) * 2;
  const width = even(output.width / 3);
  const height = even(output.height / 3);
  const margin = even(output.height / 16);
  const x = side === 'left' ? margin : even(output.width - width - margin);
  const area = { x, y: margin, width, height };
  return { name, role, output: output.name, plane: 'overlay', area, z: 0, args };
}

/** TOML, but for `[daemon]`. */
export function demoConfiguration(guests: readonly DemoGuest[]): string {
  return guests
    .map(({ name, output, plane, area, z }) => {
      const { x, y, width, height } = area;
      return [
        '[[guest]]',
        `name = "${name}"`,
        `output = "${output}"`,
        `plane = "${plane}"`,
        `area = { x = ${x}, y = ${y}, width = ${width}, height = ${height} }`,
        `z = ${z}\n`,
      ].join('\n');
    })
    .join('\n');
}
