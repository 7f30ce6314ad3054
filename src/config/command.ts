/** The command of a [[guest]]: a program with its arguments, in which words in braces stand for what the entry says. */

export const COMMAND_WORDS = ['name', 'socket', 'address', 'device', 'output', 'lease', 'fd'] as const;
export type CommandWord = (typeof COMMAND_WORDS)[number];

/** What the words stand for; a guest need not have each. */
export type CommandValues = Readonly<Record<CommandWord, string | null>>;

/** Why an argument cannot be used; `allowed` as in an error of the configuration. */
export class CommandError extends Error {
  constructor(
    message: string,
    readonly allowed: string,
  ) {
    super(message);
    this.name = 'CommandError';
  }
}

/** What `{fd}` stands for until there is a lease; texts of the configuration have no NUL. */
export const FD_TO_COME = '\0fd\0';

/** The command when the number is known, or in place of it what people are shown. */
export function withDescriptor(command: readonly string[], number: string): string[] {
  return command.map((text) => text.replaceAll(FD_TO_COME, number));
}

const WORDS_ALLOWED = `${COMMAND_WORDS.map((word) => `{${word}}`).join(', ')}, or {{ and }} for braces`;
/** A doubled brace, a word in braces, or a brace that is neither. */
const PART = /\{\{|\}\}|\{([A-Za-z0-9_]*)\}|[{}]/g;

/** Puts the values in. Throws CommandError for a word that there is not, that has no value, and for a lone brace. */
export function expandArgument(text: string, values: CommandValues): string {
  return text.replace(PART, (part, word: string | undefined) => {
    if (part === '{{' || part === '}}') return part.slice(1);
    if (word === undefined) throw new CommandError(`a lone ${part}`, WORDS_ALLOWED);
    if (!isWord(word)) throw new CommandError(`there is no ${part}`, WORDS_ALLOWED);
    const value = values[word];
    if (value === null) throw new CommandError(`this guest has no ${word}`, 'a word that the guest has');
    return value;
  });
}

/** The whole command. Throws CommandError. */
export function expandCommand(command: readonly string[], values: CommandValues): string[] {
  const expanded = command.map((text) => expandArgument(text, values));
  checkProgram(expanded[0] ?? '');
  return expanded;
}

/** A path that depends on where the caller stands would be another program at each start. */
export function checkProgram(program: string): void {
  if (program === '' || (program.includes('/') && !program.startsWith('/'))) {
    const allowed = 'an absolute path, or a name that is looked for in PATH';
    throw new CommandError('the program cannot be found by it', allowed);
  }
}

function isWord(word: string): word is CommandWord {
  return (COMMAND_WORDS as readonly string[]).includes(word);
}
