// Signature Version 4 against the values that AWS publishes.
import test from 'ava';

import { sign } from '../../cloud/aws/signature.js';

const signer = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
};
const at = new Date('2015-08-30T12:36:00Z');
const URL = 'https://example.amazonaws.com';
const FORM = 'application/x-www-form-urlencoded';

const VECTORS: {
  name: string;
  method?: string;
  url?: string;
  headers?: Record<string, string>;
  body?: string;
  service?: string;
  token?: string;
  names?: string;
  signature: string;
}[] = [
  // aws-sig-v4-test-suite.
  { name: 'get-vanilla', signature: '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31' },
  {
    name: 'get-vanilla-query-order-key-case',
    url: `${URL}/?Param2=value2&Param1=value1`,
    signature: 'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500',
  },
  {
    name: 'post-vanilla',
    method: 'POST',
    signature: '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
  },
  {
    name: 'post-x-www-form-urlencoded',
    method: 'POST',
    headers: { 'Content-Type': FORM },
    body: 'Param1=value1',
    names: 'content-type;host;x-amz-date',
    signature: 'ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a',
  },
  // The example of the documentation of Signature Version 4: ListUsers of IAM.
  {
    name: 'the ListUsers of the documentation',
    url: 'https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08',
    headers: { 'Content-Type': `${FORM}; charset=utf-8` },
    service: 'iam',
    names: 'content-type;host;x-amz-date',
    signature: '5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7',
  },
];

for (const {
  name,
  method = 'GET',
  url = `${URL}/`,
  headers = {},
  body = '',
  service = 'service',
  ...wanted
} of VECTORS) {
  test(name, (t) => {
    const { authorization } = sign({ method, url, headers, body, region: 'us-east-1', service }, signer, at);
    t.is(
      authorization,
      `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/${service}/aws4_request, SignedHeaders=${wanted.names ?? 'host;x-amz-date'}, Signature=${wanted.signature}`,
    );
  });
}

test('the token of temporary credentials is sent and signed, and the secret is nowhere', (t) => {
  const headers = sign(
    { method: 'POST', url: `${URL}/`, headers: {}, body: 'a=b', region: 'eu-west-1', service: 'ec2' },
    { ...signer, sessionToken: 'the-token' },
    at,
  );
  t.is(headers['x-amz-security-token'], 'the-token');
  t.regex(headers['authorization'] ?? '', /SignedHeaders=host;x-amz-date;x-amz-security-token,/);
  t.false(JSON.stringify(headers).includes(signer.secretAccessKey));
});
