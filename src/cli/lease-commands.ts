/** The commands of scanoutctl for leases. */
import type { Command } from 'commander';
import { command, type ExitWith, find, type JsonOption, print, type WithDaemon } from './commands.js';
import { CliError, EXIT } from './errors.js';
import type { Io } from './io.js';
import { planLeaseRun } from './lease-run.js';
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
  command(lease, 'run', 'run a program that inherits a lease, which lasts as long as it', [
    [
      'scanoutctl lease run desk -- flutter-pi --drm-fd {fd} app',
      'the number of the descriptor in an argument',
    ],
    ['scanoutctl lease run desk --fd-env SLINT_DRM_LEASE_FD -- demo', 'in a variable of that name'],
  ])
    .argument('<lease>', 'name of a [[lease]]')
    .argument('<program...>', 'the program and its arguments, after --')
    .option('--fd-env <name>', 'variable that has the number of the descriptor', 'SCANOUTD_LEASE_FD')
    .action(async (name: string, words: string[], options: JsonOption & { fdEnv: string }) => {
      if (options.json === true) {
        throw new CliError(EXIT.usage, '--json is not for lease run', 'The output is that of the program.');
      }
      const start = planLeaseRun(words, name, options.fdEnv);
      await withDaemon(async (daemon) => {
        const { fd } = await daemon.takeLease(name);
        try {
          exitWith(await io.runWithLease(start, fd));
        } finally {
          fd.close();
          // One that was revoked meanwhile is not ours to give back.
          await daemon.releaseLease(name).catch(() => {});
        }
      });
    });
  command(lease, 'revoke', 'take a lease from whoever has it', [
    ['scanoutctl lease revoke desk --reason "the room is closed"', "its outputs are the daemon's again"],
  ])
    .argument('<lease>', 'name of a [[lease]]')
    .option('--reason <text>', 'what its lessee is told, and the log', 'revoked by an administrator')
    .action(async (name: string, options: JsonOption & { reason: string }) => {
      const { leases } = await withDaemon(async (daemon) => {
        await daemon.revokeLease(name, options.reason);
        return daemon.describe();
      });
      print(io, options, find(leases, name, 'lease'), () => formatLeases(leases, { color: io.color }));
    });
}
