# What a kernel sees of VT-x: three accesses, and after each the vector of the exception that it met, or "-".
#   RDMSR of IA32_FEATURE_CONTROL, CR4.VMXE = 1, VMXON (SDM 3C 30.3, 3D appendix A)
        #include "multiboot.inc"
        .set    FEATURE_CONTROL, 0x3A
        .set    CR4_VMXE, 1 << 13

.macro probe code:vararg
        movl    $9f, resume
        movb    $'-', met
        \code
9:      put     met
.endm

_start:
        movl    $stack_end, %esp
        lgdt    gdt_register
        ljmp    $8, $3f
3:      movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        lidt    idt_register
        movl    $FEATURE_CONTROL, %ecx
        probe   rdmsr
        movl    %cr4, %eax
        orl     $CR4_VMXE, %eax
        probe   movl %eax, %cr4
        probe   vmxon region
        put     $'\n'
        power_off

invalid_opcode:
        movb    $'6', met
        pushl   resume
        popl    (%esp)
        iret
general_protection:
        movb    $'D', met
        addl    $4, %esp
        pushl   resume
        popl    (%esp)
        iret

        .data
        .align  8
gdt:    .quad   0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF
gdt_register:
        .word   . - gdt - 1
        .long   gdt
        .align  8
# Interrupt gates. The text begins at 0x100000 and is shorter than 64 KiB.
idt:    .fill   6, 8, 0
        .word   invalid_opcode - text_start, 8, 0x8E00, 0x10
        .fill   6, 8, 0
        .word   general_protection - text_start, 8, 0x8E00, 0x10
idt_register:
        .word   . - idt - 1
        .long   idt
resume: .long   0
met:    .byte   0
        .align  8
region: .quad   1 # no page: VMXON that gets so far fails without an exception
        .fill   256, 4, 0
stack_end:
