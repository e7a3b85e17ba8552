# What doxygen is to see of a header: there the sentence of a file stands beside @file, and #BP is an exception, no link.
s,@file \(.\),@file\n\1,
s/#\([A-Z][A-Z]\)\b/\\#\1/g
