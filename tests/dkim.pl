# Verifies DKIM signatures with Mail::DKIM: one message in base64 on each line of stdin, what each of its signatures came
# to on each line of stdout, as selector=result. The only argument is the port of the name server on this machine.
# Started by tests/judges.py.
use strict;
use warnings;
use MIME::Base64;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS::Resolver;

Mail::DKIM::DNS::resolver(
    Net::DNS::Resolver->new(nameservers => ["127.0.0.1"], port => $ARGV[0], recurse => 0, dnsrch => 0, defnames => 0));
while (my $line = <STDIN>) {
    my $verifier = Mail::DKIM::Verifier->new();
    $verifier->PRINT(decode_base64($line));
    $verifier->CLOSE();
    print join(" ", map { $_->selector . "=" . $_->result } $verifier->signatures), "\n";
}
