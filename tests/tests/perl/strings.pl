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
# An allocator that gives memory back by and by does so as other memory is allocated and freed;
# large blocks, which it does not keep at hand.
while (in_use() > 30_000) {
    my @large = map { "y" x 100_000 } 1 .. 3;
}
print "{}\n";

await("again");
$kept = fill();
print "{}\n";

await("end");

# One by one: a list made at once would have every string twice for a moment.
sub fill {
    my @strings;
    push @strings, "x" x 4000 . $_ for 1 .. 25000;
    return \@strings;
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

# Resident kilobytes that are not lazily free.
sub in_use {
    open my $rollup, "<", "/proc/self/smaps_rollup" or die "smaps_rollup: $!\n";
    my %kilobytes;
    while (my $line = <$rollup>) {
        $kilobytes{$1} = $2 if $line =~ /^(Rss|LazyFree): +(\d+)/;
    }
    close $rollup;
    return $kilobytes{Rss} - $kilobytes{LazyFree};
}
