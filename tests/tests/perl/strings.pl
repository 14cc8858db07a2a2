# Fills an array with strings of 4 KB, drops them and later fills it again.
use strict;
use warnings;

$| = 1;
# A backstop only: nothing here takes that long.
alarm 60;

my $kept = fill();
print "ready $$\n";

await("go");
undef $kept;
# An allocator that gives memory back by and by does so as others are allocated and freed.
for my $round (1 .. 50000) {
    my @small = ("y" x 100 . $round);
}
print "{}\n";

await("again");
$kept = fill();
print "{}\n";

await("end");

sub fill {
    return [map { "x" x 4000 . $_ } 1 .. 25000];
}

# Returns when the word is said, and ends when nobody can say it any more.
sub await {
    my ($word) = @_;
    my $heard = <STDIN>;
    exit 0 unless defined $heard;
    chomp $heard;
    die "expected $word, heard $heard\n" unless $heard eq $word;
    return;
}
