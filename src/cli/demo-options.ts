/** The command line of the demonstration (`npm start`). */
import { Command, InvalidArgumentError } from 'commander';

export interface DemoOptions {
  /** Only say whether the demonstration can run here. */
  probe: boolean;
  seconds: number;
  out: string;
  /** Make a virtual display first and show everything there. */
  vkms: boolean;
}

const HELP = `
Exit status:
  0  every guest was shown (--probe: a card can be taken here)
  1  something was not; what, is said
  2  wrong use of the command line
`;

/** Throws commander's CommanderError, which has been printed. */
export function parseDemoOptions(args: readonly string[], env: NodeJS.ProcessEnv): DemoOptions {
  const options = new Command('npm start --')
    .description(
      'Shows what scanoutd does: four guests flip onto the planes of two outputs. On a card of this machine when one ' +
        'can be taken, else in the test machine.',
    )
    .option('--probe', 'say whether a card can be taken here, and end')
    .option('--seconds <n>', 'how long the guests draw', readSeconds, 10)
    .option('--out <dir>', 'where pictures and page go', env.SCANOUTD_OUT ?? 'out/demo')
    .option('--vkms', 'on a virtual display, made for it (root; what the test machine does)')
    .allowExcessArguments(false)
    .addHelpText('after', HELP)
    .exitOverride()
    .parse(args, { from: 'user' })
    .opts<{ probe?: boolean; seconds: number; out: string; vkms?: boolean }>();
  const { probe = false, seconds, out, vkms = env.SCANOUTD_MACHINE === '1' } = options;
  return { probe, seconds, out, vkms };
}

function readSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 1 && seconds <= 3600)) {
    throw new InvalidArgumentError('It is a number of seconds from 1 to 3600.');
  }
  return seconds;
}
