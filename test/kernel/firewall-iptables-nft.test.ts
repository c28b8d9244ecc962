// The firewall by iptables-nft.
import { firewallSuite } from './firewall-suite.js';

firewallSuite('iptables-nft');
