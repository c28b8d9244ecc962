// Tracks the host's own resolv.conf, polled every second.
//
// It may be a symbolic link that is redirected, a file that is replaced, or one that is written in place; inotify sees each of
// these differently, or not at all.
import { readFileSync, unwatchFile, watchFile } from 'node:fs';

import { messageOf } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import { NO_RESOLV_CONF, parseResolvConf, type ResolvConf } from './resolv-conf.js';

const EVERY_MS = 1000;

export class HostResolvConf {
  #current: ResolvConf;

  constructor(
    private readonly log: Logger,
    private readonly path = '/etc/resolv.conf',
  ) {
    this.#current = this.#read();
  }

  get current(): ResolvConf {
    return this.#current;
  }

  follow(onChange: () => void): () => void {
    const listener = (): void => {
      const before = JSON.stringify(this.#current);
      this.#current = this.#read();
      if (JSON.stringify(this.#current) === before) return;
      this.log.info('the name servers of the host changed', {
        nameservers: this.#current.nameservers.join(' '),
      });
      onChange();
    };
    watchFile(this.path, { interval: EVERY_MS, persistent: false }, listener);
    return () => unwatchFile(this.path, listener);
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
