// Garbage in the text fields of requests, as the services parse them.
//
// Each parses to a request, or to an error that names what is wrong.
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';

import { parseDetach } from '../../agent/api/server.js';
import { parseAttach } from '../../agent/endpoints/attach-request.js';
import { parseRun } from '../../agent/runtime/run-request.js';
import { parsePipeworkAttach, parsePipeworkDetach } from '../../agent/pipework/messages.js';
import { checkAttach, parseCreateNetwork } from '../../controller/requests.js';
import { WeftError } from '../../core/errors.js';
import { parseTarget } from '../../core/target.js';
import {
  AttachRequest,
  DetachRequest,
  PipeworkDetachRequest,
  PipeworkRequest,
} from '../../proto/gen/weft/v1/agent.js';
import { CreateNetworkRequest } from '../../proto/gen/weft/v1/controller.js';
import { RunRequest } from '../../proto/gen/weft/v1/runtime.js';
import { patience, polluted, times, unclear } from './garbage.js';
import { fieldsOf, messagesOf } from './messages.js';

interface Message<T> {
  decode(bytes: Uint8Array): T;
}

const WORDS = ['blue', '10.100.5.2', '10.100.0.0/16', 'fd42::2', 'fd42::/48', 'eth0', 'br1', '8080:80/udp'];

function attacked<T>(
  t: ExecutionContext,
  message: Message<T>,
  parsers: readonly ((request: T) => unknown)[],
): void {
  const decode = (bytes: Uint8Array): T => message.decode(bytes);
  fc.assert(
    fc.property(messagesOf(fieldsOf(decode), WORDS), (bytes) => {
      for (const parse of parsers) {
        try {
          parse(decode(bytes));
        } catch (error) {
          if (!(error instanceof WeftError)) throw error;
          t.true(
            ['INVALID_ARGUMENT', 'UNIMPLEMENTED'].includes(error.code),
            `${error.code}: ${error.message}`,
          );
          t.is(unclear(error.message), undefined, error.message);
        }
      }
    }),
    { numRuns: times(2000), includeErrorInReport: true },
  );
  t.deepEqual(polluted(), []);
}

test('attach', (t) => {
  t.timeout(patience(60));
  attacked(t, AttachRequest, [parseAttach, checkAttach, ({ target }) => parseTarget(target)]);
});

test('detach', (t) => {
  attacked(t, DetachRequest, [parseDetach]);
});

test('run', (t) => {
  t.timeout(patience(60));
  attacked(t, RunRequest, [parseRun]);
});

test('pipework', (t) => {
  t.timeout(patience(60));
  attacked(t, PipeworkRequest, [parsePipeworkAttach]);
  attacked(t, PipeworkDetachRequest, [parsePipeworkDetach]);
});

test('networks', (t) => {
  t.timeout(patience(60));
  attacked(t, CreateNetworkRequest, [parseCreateNetwork]);
});
