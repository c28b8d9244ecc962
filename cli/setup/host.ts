// The host that is set up: its files, its systemd, and what is to be done where that is not to be used.
import { hostname } from 'node:os';

import { failedPrecondition, permissionDenied } from '../../core/errors.js';
import type { GlobalOptions } from '../global-options.js';
import { SetupFiles, type SetupFile, type SetupKind } from './files.js';
import { say, untilReady } from './health.js';
import { AGENT_YAML, CONTROLLER_YAML, valueIn } from './settings.js';
import { Systemd } from './systemd.js';
import { dropIn, packagedUnit, startsThis, unitFile, type Unit } from './units.js';

export interface SetupOptions extends GlobalOptions {
  /** False with --no-start. */
  start: boolean;
  root: string;
  /** Seconds. */
  wait: number;
}

/** The agent's --state-dir and the controller's, as the units have them. */
export const AGENT_STATE = '/var/lib/weft';
export const CONTROLLER_STATE = '/var/lib/weft-controller';
/** Where systemd shows the controller's unit what it may read with LoadCredential= (systemd.exec(5)). */
export const CREDENTIALS = '/run/credentials/weft-controller.service';
/** By which commands find the certificate of root on the controller's host. */
export const ADMIN_LINK = '/etc/weft/admin';

/** Where each daemon serves /readyz, and the controller gRPC, unless its file says otherwise. */
const HTTP: Readonly<Record<Unit, string>> = {
  'weft-controller': '127.0.0.1:7401',
  'weft-agent': '127.0.0.1:7402',
};
const YAML: Readonly<Record<Unit, string>> = {
  'weft-controller': CONTROLLER_YAML,
  'weft-agent': AGENT_YAML,
};

export class SetupHost {
  readonly files: SetupFiles;

  private constructor(
    private readonly options: SetupOptions,
    /** Undefined: nothing is to be started, or not by systemd. */
    readonly systemd: Systemd | undefined,
  ) {
    this.files = new SetupFiles(options.root);
  }

  /** @throws WeftError where this process may not do it */
  static async open(options: SetupOptions): Promise<SetupHost> {
    if (options.root === '/' && process.geteuid?.() !== 0)
      throw permissionDenied('this changes /etc and starts services, and needs root', 'Run it with sudo.');
    return new SetupHost(options, options.start ? await Systemd.find() : undefined);
  }

  /** Why nothing is started; undefined where it is. */
  get notStarted(): string | undefined {
    if (this.systemd !== undefined) return undefined;
    return this.options.start ? 'There is no systemd here' : 'Nothing was started';
  }

  /** The commands that start the daemons where this one does not. */
  startCommands(daemons: readonly Unit[]): string[] {
    if (!this.options.start)
      return ['systemctl daemon-reload', `systemctl enable --now ${daemons.join(' ')}`];
    const state = `--state-dir ${CONTROLLER_STATE} --node-token ${CONTROLLER_STATE}/node-token`;
    return daemons.map((unit) => (unit === 'weft-agent' ? 'weft agent' : `weft controller ${state}`));
  }

  /** Whether units are of use: not where there is no systemd to start them. */
  get hasUnits(): boolean {
    return !this.options.start || this.systemd !== undefined;
  }

  /** The units, where they are of use and no package has brought them. @param more lines for the controller's */
  units(daemons: readonly Unit[], more: readonly string[] = []): SetupFile[] {
    if (!this.hasUnits) return [];
    return daemons.flatMap((unit) => {
      const lines = unit === 'weft-controller' ? more : [];
      if (!this.#isPackaged(unit)) return [unitFile(unit, lines)];
      return lines.length > 0 ? [dropIn(unit, lines)] : [];
    });
  }

  /** Whether the host has the unit, of a package or of `weft init`. */
  hasUnit(unit: Unit): boolean {
    return this.#isPackaged(unit) || this.files.has(`/etc/systemd/system/${unit}.service`);
  }

  #isPackaged(unit: Unit): boolean {
    return startsThis(this.files.read(packagedUnit(unit)) ?? '');
  }

  /** Checks all, then writes. Returns the paths that were written. @throws WeftError FAILED_PRECONDITION */
  async write(kind: SetupKind, files: readonly SetupFile[]): Promise<string[]> {
    await this.files.check(files);
    const written = this.files.write(kind, files);
    for (const path of written) say(`wrote ${path}`);
    if (this.systemd !== undefined) await this.systemd.reload();
    return written;
  }

  /** Starts a daemon, and waits until it is ready. @throws WeftError FAILED_PRECONDITION, UNAVAILABLE */
  async start(systemd: Systemd, unit: Unit): Promise<void> {
    await systemd.enable(unit);
    const http = await this.httpOf(unit);
    await untilReady({ unit, http, systemd, withinMs: this.options.wait * 1000 });
  }

  /** HOST:PORT of a daemon's HTTP server. */
  async httpOf(unit: Unit): Promise<string> {
    return (await this.setting(unit, 'http')) ?? HTTP[unit];
  }

  /** HOST:PORT at which this host reaches its own controller. */
  async controllerAddress(): Promise<string> {
    const listen = (await this.setting('weft-controller', 'listen')) ?? '0.0.0.0:7400';
    return listen.replace(/^0\.0\.0\.0:/, '127.0.0.1:').replace(/^\[::\]:/, '[::1]:');
  }

  /** A setting that the file of a daemon has. */
  setting(unit: Unit, key: string): Promise<string | undefined> {
    const path = YAML[unit];
    return valueIn(this.files.read(path), key, this.files.at(path));
  }

  /** Of the agent. */
  async nodeName(): Promise<string> {
    return (await this.setting('weft-agent', 'node')) ?? hostname();
  }

  /** @throws WeftError FAILED_PRECONDITION where the other command has set this host up */
  mustBe(kind: SetupKind): void {
    const is = this.files.kind;
    if (is === undefined || is === kind) return;
    throw failedPrecondition(
      is === 'init'
        ? 'this host has a cluster of its own (weft init)'
        : 'this host is in a cluster (weft join)',
      'Take it out first: weft leave.',
    );
  }
}
