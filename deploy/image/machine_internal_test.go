package image

import (
	"strings"
	"testing"
)

// FuzzParseLibraries reads anything as the output of ldd. Every library is one
// that a line of it names, and no line names two.
func FuzzParseLibraries(f *testing.F) {
	f.Add("\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f11)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f22)\n")
	f.Add("\tnot a dynamic executable\n")
	f.Add("\tlibjemalloc.so.2 => not found\n")
	f.Add("\tliba.so => / (0x1)\n\tlibb.so => /b (0")
	f.Fuzz(func(t *testing.T, listed string) {
		libraries := parseLibraries([]byte(listed))
		for _, library := range libraries {
			if !strings.HasPrefix(library.Source, "/") || library.Name != library.Source[1:] || !strings.Contains(listed, library.Source+" (0x") {
				t.Errorf("%q has no %+v", listed, library)
			}
		}
		most := 0
		for line := range strings.Lines(listed) {
			if strings.HasPrefix(line, "\t") && strings.Contains(line, "/") && strings.Contains(line, " (0x") {
				most++
			}
		}
		if len(libraries) > most {
			t.Errorf("%q has %d libraries, found are %d", listed, most, len(libraries))
		}
	})
}
