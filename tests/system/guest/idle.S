# Says that it runs, and waits for nothing.
        #include "multiboot.inc"
_start:
        put     $'u'
        put     $'p'
        put     $'\n'
        cli
2:      hlt
        jmp     2b
