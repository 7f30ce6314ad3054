/** How scanoutctl fails: exit codes, and errors that say what, where, why and what to do. */

export const EXIT = {
  ok: 0,
  /** The daemon refused, or what was looked at is not right (`check`). */
  refused: 1,
  usage: 2,
  /** No daemon at the bus, or it went away. */
  unreachable: 3,
  /** What is to be started is wrong (EX_CONFIG of sysexits.h): starting again would not help. */
  config: 78,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An error that is told to the user as it is; any other is a bug of the program. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  /** What to do about it, as whole sentences. */
  readonly advice: string;

  constructor(exitCode: ExitCode, message: string, advice: string) {
    super(message);
    this.name = 'CliError';
    this.exitCode = exitCode;
    this.advice = advice;
  }
}

/** `scanoutctl: MESSAGE`, and the advice on a line of its own. */
export function formatError(error: CliError): string {
  return `scanoutctl: ${error.message}\n${error.advice === '' ? '' : `  ${error.advice}\n`}`;
}
