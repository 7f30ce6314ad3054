/** The commands of scanoutctl for leases. */
import type { Command } from 'commander';
import type { EndLeaseRequest, LeaseDocument, TakeLeaseRequest } from '../api/documents.js';
import { DLM_CONFIG_PATH } from '../config/dlm-config.js';
import { command, type ExitWith, find, type JsonOption, print, type WithDaemon } from './commands.js';
import { CliError, EXIT } from './errors.js';
import type { Io } from './io.js';
import { type GrantIo, grantLease } from './lease-grant.js';
import { type ImportOptions, importDlm } from './lease-import.js';
import { type OnNotice, parseNoticeSignal, planLeaseRun } from './lease-run.js';
import { formatLeases } from './text.js';

export function addLeaseCommands(program: Command, io: Io, withDaemon: WithDaemon, exitWith: ExitWith): void {
  command(program, 'leases', 'show the leases, and who has them', [
    ['scanoutctl leases', 'a line each'],
    ['scanoutctl leases --json | jq \'.[] | select(.state == "leased")\'', 'those that somebody has'],
  ]).action(async (options: JsonOption) => {
    const { leases } = await withDaemon((daemon) => daemon.describe());
    print(io, options, leases, () => formatLeases(leases, { color: io.color }));
  });
  const lease = program.command('lease').description('lease outputs to programs that drive them themselves');
  addRun(lease, io, withDaemon, exitWith);
  addGrant(lease, io, withDaemon);
  addRevoke(lease, io, withDaemon);
  addTransfer(lease, io, withDaemon);
  addImport(lease, io);
}

interface TakeOptions extends JsonOption {
  wait?: string | true;
  transfer?: true;
  reason?: string;
}

function takeRequest({ wait, transfer, reason }: TakeOptions): TakeLeaseRequest {
  const timeoutMs = typeof wait === 'string' ? milliseconds(wait, '--wait') : undefined;
  return {
    ...(wait === undefined ? {} : { wait: true }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(transfer === undefined ? {} : { transfer }),
    ...(reason === undefined ? {} : { reason }),
  };
}

function milliseconds(text: string, option: string): number {
  if (/^[0-9]{1,8}$/.test(text)) return Number(text);
  throw new CliError(EXIT.usage, `${option} ${text}: not a number of milliseconds`, 'Such as 5000.');
}

function addRun(lease: Command, io: Io, withDaemon: WithDaemon, exitWith: ExitWith): void {
  const run = command(lease, 'run', 'run a program that inherits a lease, which lasts as long as it', [
    [
      'scanoutctl lease run desk -- flutter-pi --drm-fd {fd} app',
      'the number of the descriptor in an argument',
    ],
    ['scanoutctl lease run desk --fd-env SLINT_DRM_LEASE_FD -- demo', 'in a variable of that name'],
    ['scanoutctl lease run desk --wait -- demo', 'when whoever has it is done with it'],
  ])
    .argument('<lease>', 'name of a [[lease]], or the connector of one that has no other')
    .argument('<program...>', 'the program and its arguments, after --')
    .option('--fd-env <name>', 'variable that has the number of the descriptor', 'SCANOUTD_LEASE_FD')
    .option(
      '--notice-signal <name>',
      'what the program gets when the lease is about to be taken; or none',
      'TERM',
    );
  addTakeOptions(run).action(
    async (name: string, words: string[], options: TakeOptions & { fdEnv: string; noticeSignal: string }) => {
      if (options.json === true) {
        throw new CliError(EXIT.usage, '--json is not for lease run', 'The output is that of the program.');
      }
      const signal = parseNoticeSignal(options.noticeSignal);
      const request = takeRequest(options);
      await withDaemon(async (daemon) => {
        let told = () => {};
        daemon.onLeaseNotice((lease, reason, ms) => {
          io.error(`scanoutctl: lease ${lease} ends in ${ms} ms: ${reason}\n`);
          told();
        });
        const { fd, document } = await daemon.takeLease(name, request);
        const start = planLeaseRun(words, document.name, options.fdEnv);
        const onNotice: OnNotice = (tell) => {
          told = tell;
        };
        try {
          exitWith(await io.runWithLease(start, fd, onNotice, signal));
        } finally {
          fd.close();
          // One that was revoked meanwhile is not ours to give back.
          await daemon.releaseLease(document.name).catch(() => {});
        }
      });
    },
  );
}

function addTakeOptions(command: Command): Command {
  return command
    .option('--wait [ms]', 'wait where somebody else has it, or its connector is not there; at most so long')
    .option('--transfer', 'take it over from its lessee, where the lease permits that')
    .option('--reason <text>', 'what its lessee is told then');
}

function addGrant(lease: Command, io: Io, withDaemon: WithDaemon): void {
  const grant = command(lease, 'grant', 'hand a lease to a program that listens on a socket, and hold it', [
    ['scanoutctl lease grant desk --to /run/player.sock', 'until the program is done with it'],
    ['scanoutctl lease grant desk --to /run/player.sock --json', 'one document a line'],
  ])
    .argument('<lease>', 'name of a [[lease]], or the connector of one that has no other')
    .requiredOption('--to <socket>', 'unix socket (SOCK_SEQPACKET) on which the program listens');
  addTakeOptions(grant).action(async (name: string, options: TakeOptions & { to: string }) => {
    const say = (document: object, text: string) =>
      io.out(options.json === true ? `${JSON.stringify(document)}\n` : text);
    const end = await withDaemon((daemon) => {
      const what = { lease: name, request: takeRequest(options), socket: options.to };
      const world: GrantIo = {
        connectReceiver: (path) => io.connectReceiver(path),
        error: (text) => io.error(text),
        untilEnded: (work) => io.terminal.untilEnded(work),
      };
      return grantLease(daemon, what, world, (document, { pid, uid }) => {
        const text = `${document.name}: ${document.outputs.join(', ')}, granted to process ${pid}, uid ${uid}\n`;
        say({ event: 'granted', pid, uid, lease: document }, text);
      });
    });
    const text =
      end.how === 'released'
        ? `${name}: given back\n`
        : end.how === 'interrupted'
          ? `${name}: taken back\n`
          : '';
    say({ event: 'ended', ...end }, text);
    if (end.how === 'crashed')
      throw new CliError(EXIT.refused, `the program that had lease ${name} is gone without a word`, '');
    if (end.how === 'taken') throw new CliError(EXIT.refused, `lease ${name} was taken: ${end.reason}`, '');
  });
}

interface EndOptions extends JsonOption {
  reason: string;
  notice?: string;
}

function endRequest({ reason, notice }: EndOptions): EndLeaseRequest {
  return { reason, ...(notice === undefined ? {} : { noticeMs: milliseconds(notice, '--notice') }) };
}

/** By its name, or the connector of one that has no other. Throws CliError. */
function findLease(leases: readonly LeaseDocument[], asked: string): LeaseDocument {
  const isAlone = ({ outputs }: LeaseDocument) => outputs.length === 1 && outputs[0] === asked;
  const named = leases.find(({ name }) => name === asked);
  return named ?? leases.find(isAlone) ?? find(leases, asked, 'lease');
}

function addRevoke(lease: Command, io: Io, withDaemon: WithDaemon): void {
  command(lease, 'revoke', 'take a lease from whoever has it; who waits for it gets it', [
    ['scanoutctl lease revoke desk --reason "the room is closed"', "its outputs are the daemon's again"],
    ['scanoutctl lease revoke desk --notice 0', 'at once'],
  ])
    .argument('<lease>', 'name of a [[lease]]')
    .option('--reason <text>', 'what its lessee is told, and the log', 'revoked by an administrator')
    .option('--notice <ms>', 'how long its lessee has to give it back; as configured without this')
    .action(async (name: string, options: EndOptions) => {
      const { leases } = await withDaemon(async (daemon) => {
        await daemon.revokeLease(name, endRequest(options));
        return daemon.describe();
      });
      print(io, options, findLease(leases, name), () => formatLeases(leases, { color: io.color }));
    });
}

function addTransfer(lease: Command, io: Io, withDaemon: WithDaemon): void {
  command(lease, 'transfer', 'hand a lease on to who waits for it, with no moment without a picture', [
    ['scanoutctl lease transfer desk', 'to the first who waits'],
    ['scanoutctl lease transfer desk --to 4711', 'to that process'],
  ])
    .argument('<lease>', 'name of a [[lease]]')
    .option('--to <pid>', 'the process that gets it, of those that wait')
    .option('--reason <text>', 'what its lessee is told, and the log', 'transferred by an administrator')
    .option('--notice <ms>', 'how long its lessee has to give it back; as configured without this')
    .action(async (name: string, options: EndOptions & { to?: string }) => {
      const { to } = options;
      if (to !== undefined && !/^[1-9][0-9]{0,9}$/.test(to)) {
        throw new CliError(
          EXIT.usage,
          `--to ${to}: not the number of a process`,
          '`scanoutctl leases` shows who waits.',
        );
      }
      const { leases } = await withDaemon(async (daemon) => {
        const request = { ...endRequest(options), ...(to === undefined ? {} : { to: Number(to) }) };
        await daemon.transferLease(name, request);
        return daemon.describe();
      });
      print(io, options, findLease(leases, name), () => formatLeases(leases, { color: io.color }));
    });
}

function addImport(lease: Command, io: Io): void {
  command(lease, 'import', 'print the leases of drm-lease-manager as [[lease]] tables', [
    ['scanoutctl lease import', `those of ${DLM_CONFIG_PATH}, or its default ones`],
    [
      'scanoutctl lease import ./leases.toml -t -k',
      'of another file, with the options that its command line has',
    ],
  ])
    .argument('[file]', 'configuration of drm-lease-manager')
    .option(
      '-t, --lease-transfer',
      'as on its command line: who asks for a lease gets it from whoever has it',
    )
    .option('-k, --keep-on-crash', 'as on its command line: the last frame of a lessee that crashed stays')
    .option('--device <path>', 'the card that its command line names')
    .action(async (file: string | undefined, options: JsonOption & ImportOptions) => {
      const { document, text } = await importDlm(file, options, io.readCards);
      print(io, options, document, () => text);
    });
}
