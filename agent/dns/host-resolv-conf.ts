// Tracks the host's own resolv.conf, which is polled.
//
// It may be a symbolic link that is redirected, a file that is replaced, or one that is written in place; inotify sees each of
// these differently, or not at all.
import { readFileSync, statSync } from 'node:fs';

import { messageOf } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import { NO_RESOLV_CONF, parseResolvConf, type ResolvConf } from './resolv-conf.js';

export class HostResolvConf {
  #current: ResolvConf;
  /** Which file was read, and as of when. */
  #version: string;

  constructor(
    private readonly log: Logger,
    private readonly path = '/etc/resolv.conf',
  ) {
    this.#version = this.#versionNow();
    this.#current = this.#read();
  }

  get current(): ResolvConf {
    return this.#current;
  }

  /** Reads it again if it is another one. @returns whether it says something else now */
  look(): boolean {
    const version = this.#versionNow();
    if (version === this.#version) return false;
    this.#version = version;
    const before = JSON.stringify(this.#current);
    this.#current = this.#read();
    if (JSON.stringify(this.#current) === before) return false;
    this.log.info('the name servers of the host changed', {
      nameservers: this.#current.nameservers.join(' '),
    });
    return true;
  }

  #versionNow(): string {
    try {
      const { dev, ino, size, ctimeMs } = statSync(this.path);
      return `${dev} ${ino} ${size} ${ctimeMs}`;
    } catch (error) {
      return messageOf(error);
    }
  }

  #read(): ResolvConf {
    try {
      return parseResolvConf(readFileSync(this.path, 'utf8'));
    } catch (error) {
      this.log.warn('the host’s resolv.conf cannot be read', { path: this.path, error: messageOf(error) });
      return NO_RESOLV_CONF;
    }
  }
}
